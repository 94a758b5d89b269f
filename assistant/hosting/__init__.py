"""What the plugin host is made of: finding, calling and checking plugins."""
