"""Search services, one module each: what is asked of them and what their answers mean."""
