"""Analyses of image models: numbers and arrays behind Figures 3, 5, 6 and the appendices.

An analysis is a function of fitted models and data, without side effects. Its numbers come from
every seed that did not fail, its arrays, from which a figure is drawn, from the first one.
"""
