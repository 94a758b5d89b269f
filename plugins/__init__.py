"""The bundled skills. They come in by the same entry points as everybody else's."""
