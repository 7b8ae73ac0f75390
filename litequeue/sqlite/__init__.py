"""The store on one SQLite file: the only folder that knows SQL or a driver."""
