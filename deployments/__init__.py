"""What runs where: settings of each target, bootstrap, and the local stack."""
