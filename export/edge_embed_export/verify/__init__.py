"""A bundle compared with the library that its model is used with."""
