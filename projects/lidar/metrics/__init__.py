"""How well points are classified: the counting core needs numpy only, `metric` registers the MMEngine metric."""
