"""litequeue at home in frameworks; a module each, imported by the application alone."""
