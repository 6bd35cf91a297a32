"""The report: claims, tables, runs, figures and costs of a recipe, gathered for one page."""
