"""What every other package uses; it knows no network, database or torch."""
