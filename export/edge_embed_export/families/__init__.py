"""Map a config and names onto the graph.

One small module for each model family: it maps a checkpoint's config and tensor names onto `spec.Spec`.
"""
