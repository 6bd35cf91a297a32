"""Figures: models, tables and analyses drawn with matplotlib, one module per kind of figure."""
