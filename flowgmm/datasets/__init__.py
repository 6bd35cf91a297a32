"""Datasets: loaders, validation, features files, splits and downloads."""
