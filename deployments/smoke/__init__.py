"""`python -m deployments smoke`: tries the calls of the service once in a real workspace, and removes what it made."""
