"""How writes are committed: the writer, its queue, open transactions, the fair lock between processes."""
