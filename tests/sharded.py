"""`salmonn_core.training` with FSDP on CPUs: accelerate shares weights out on GPUs only, torch does on CPUs, too."""

import accelerate
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

begin = accelerate.Accelerator.__init__


def sharded(self, **more):
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, cpu_ram_efficient_loading=False)
    begin(self, **more, fsdp_plugin=plugin)
    AcceleratorState._shared_state |= {"distributed_type": DistributedType.FSDP, "fsdp_plugin": plugin}


accelerate.Accelerator.__init__ = sharded

from salmonn_core.training.__main__ import main  # noqa: E402

main()
