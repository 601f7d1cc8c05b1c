"""Prompts from a folder, a web server or an MQTT broker that the operator names."""
