"""Pictures of point clouds: PNGs, and a page with a 3-D view that needs nothing but a browser."""
