"""The whole system on a year of New York flights, from one command."""
