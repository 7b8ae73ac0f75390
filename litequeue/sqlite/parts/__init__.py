"""The parts of the store, by topic. Each stands for one protocol of `core/engine.py` or `core/store.py`."""
