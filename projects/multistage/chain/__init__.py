"""A chain of stages: each a process of its own, begun with its parents' results, done once and never without need."""
