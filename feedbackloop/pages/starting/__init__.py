"""How answers come in by way of the Runs page: a new run in three steps, or a file of answers made elsewhere."""
