"""RocksDB, for what a process keeps of the log on its own disk."""
