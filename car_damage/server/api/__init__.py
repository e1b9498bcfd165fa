"""The HTTP side of the endpoint server: routes, response bodies, their description, and the page."""
