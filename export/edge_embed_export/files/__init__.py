"""Files of every kind as JSON and arrays; what nothing reads is refused."""
