"""The local endpoint server: the Databricks serving REST API in front of model processes."""
