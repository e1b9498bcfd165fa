"""What the endpoint server says over HTTP: its routes, what they take and give, their description, and the page."""
