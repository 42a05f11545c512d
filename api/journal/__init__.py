"""The durable record of purchases: the database, and the files beside it."""
