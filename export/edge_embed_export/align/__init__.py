"""A projection that brings a tower's vectors into the space of a text model, trained on pairs of files and captions."""
