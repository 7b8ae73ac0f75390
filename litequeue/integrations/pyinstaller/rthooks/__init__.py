"""Scripts that PyInstaller puts into a program, where they run before it. Nothing imports them."""
