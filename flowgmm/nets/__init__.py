"""Networks that are no flows: convolutional nets, generators, Gaussian heads; seeds stacked."""
