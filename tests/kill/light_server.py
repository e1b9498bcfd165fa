"""`car-damage serve` with light_model as the program of its models' processes."""

from pathlib import Path

from car_damage.cli import app
from car_damage.server.hosting import model_server

if __name__ == "__main__":
    model_server.HOST = Path(__file__).with_name("light_model.py")
    app()
