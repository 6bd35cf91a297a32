"""Single training steps of a method, by their number."""

from estimators import in_use


def losses_at(method, model, batches, streams, step, n_steps):
    """Compute the losses of a step."""
    in_use(method, *batches.x.shape[1:])
    return method._losses(model, batches, streams, method._inputs(batches, streams, step, n_steps))


def points_at(batches, step):
    """Return labelled points of a step, their classes, and its unlabelled points."""
    rows = batches.at(step)
    return batches.x[rows["labelled"]], rows["classes"], batches.x[rows["unlabelled"]]
