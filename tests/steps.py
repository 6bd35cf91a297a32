"""One training step of a method, by its number."""


def losses_at(method, model, batches, streams, step, n_steps):
    """The losses of a step."""
    return method._losses(model, batches, streams, method._inputs(batches, streams, step, n_steps))


def points_at(batches, step):
    """Labelled points of a step, their classes, and its unlabelled points."""
    rows = batches.at(step)
    return batches.x[rows["labelled"]], rows["classes"], batches.x[rows["unlabelled"]]
