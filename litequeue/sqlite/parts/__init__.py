"""The parts of the store, by topic. Each is a protocol of `core/engine.py` over the kernel that all share."""
