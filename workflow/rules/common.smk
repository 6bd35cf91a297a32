# Reads the config and holds what the rules share. No rules.
#
# Every rule's command begins with `trap '' TERM`: a cluster's SIGTERM goes to a job's shell, too, and
# a script that saves a checkpoint outlives it only if the shell does. Threads wait passively, which
# leaves the cores to other jobs: beside some, jobs of several threads are several times as fast.
import gc
import json
import os
import re
import sys
import time
from functools import cache
from pathlib import Path

from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.job_cache import clear_cache
from flowgmm.experiments.project import FILES, Job, Run, load
from flowgmm.experiments.paths import (
    features_id,
    features_path,
    is_embedded,
    point_paths,
    raw_folder,
)
from flowgmm.experiments.specs.analyses import (
    analysis_features,
    analysis_files,
    analysis_spec,
    analysis_splits,
    found_paths,
    overview_spec,
    run_analyses,
)
from flowgmm.experiments.specs.data import (
    absent_reason,
    download_paths,
    encoder_files,
    features_spec,
    fetched_encoders,
    made_files,
    raw_files,
    raw_inputs,
    wanted_file,
)
from flowgmm.experiments.specs.figures import (
    figure_analyses,
    figure_features,
    figure_models,
    figure_origin,
    figure_sources,
    figure_spec,
    figure_splits,
    figure_table,
    is_shown,
)
from flowgmm.experiments.specs.origins import origin_hash, source_paths
from flowgmm.experiments.specs.report import report_files, report_spec
from flowgmm.experiments.specs.runs import job_inputs, train_spec
from flowgmm.experiments.specs.splits import split_list, split_spec
from flowgmm.experiments.specs.tables import (
    table_origin,
    table_records,
    table_sources,
    table_spec,
)
from flowgmm.experiments.specs.tuning import (
    choose_spec,
    tune_spec,
    tuning_inputs,
    tuning_job,
)
from flowgmm.experiments.submission import check_before_submission, give_up_mistakes
from flowgmm.utils.absence import failures, reason_of
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import content_hash, remove_parts, sha256
from flowgmm.experiments.resources import (
    LEAST_MB,
    LEAST_MIN,
    NETWORK_MB,
    first,
    memory_like,
    time_like,
)
from flowgmm.experiments.sizes import data_share, work_share

# Scripts and schemas lie beside the Snakefile, wherever that is; config/ and results/ where
# Snakemake runs. Of a repository on the network Snakemake keeps single files in its cache.
SCRIPTS = [
    "check_downloads",
    "choose_candidate",
    "download_encoder",
    "download_file",
    "draw_split",
    "embed_data",
    "make_figure",
    "make_overview",
    "make_table",
    "prepare_data",
    "report",
    "run_analysis",
    "train_stack",
    "tune_candidate",
]
if isinstance(workflow.current_basedir, os.PathLike):
    REPOSITORY = Path(workflow.current_basedir).parents[1]
else:
    for name in [*FILES, "config", "recipe"]:
        workflow.source_path(f"../schemas/{name}.schema.yaml")
    for name in SCRIPTS:
        REPOSITORY = Path(workflow.source_path(f"../../scripts/{name}.py")).parents[1]

# A dry run makes millions of objects and hardly any garbage: collecting took a sixth of the time.
gc.set_threshold(1_000_000)
try:
    # Planning has checked the config already where this is a job.
    read = load_checked if workflow.is_main_process else load
    project = read(Path.cwd(), config, REPOSITORY)
except UserError as error:
    sys.exit(f"error: {error}")
if os.path.lexists("results") and not (
    Path("results").is_dir() and os.access("results", os.W_OK)
):
    sys.exit(
        "error: results is no folder that can be written; check its permissions and, of a link, "
        "where it leads"
    )

# Reasons of the jobs that are not submitted again.
GIVEN_UP = []
if workflow.is_main_process:
    # Nothing is submitted that no partition can hold.
    check_before_submission()
    give_up_mistakes(GIVEN_UP)
RESULTS = project.results
STARTED = time.time()
JOB = "{dataset}/{labels}/{method}/seeds-{first}-{last}"
RUN = f"{RESULTS}/runs/{JOB}"

NEURAL = [name for name, entry in project.methods.items() if entry.neural]
CLASSIC = [name for name, entry in project.methods.items() if not entry.neural]
FEATURES = {features_id(project, name): name for name in project.datasets}
EMBEDDED = [
    features for features, name in FEATURES.items() if is_embedded(project, name)
]
ENCODERS = fetched_encoders(project)
PREPARED = [features for features in FEATURES if features not in EMBEDDED]

TABLE_FORMATS = ["csv", "md", "tex", "json"]
FIGURE_FORMATS = ["png", "pdf", "svg"]
OVERVIEW = [f"{RESULTS}/tables/analyses.{ext}" for ext in ("md", "csv", "json")]
TABLES = [name for name in project.tables if name.startswith("table_")]
FIGURES = list(project.figures)
SHOWN = [name for name in FIGURES if is_shown(project, name)]
EXTRA_TABLES = [name for name in project.tables if name not in [*TABLES, "demo"]]


def script(name):
    """Path of a script, as a resource: that of another machine reruns nothing."""
    return str(REPOSITORY / "scripts" / f"{name}.py")


def one_of(names):
    """Regular expression of the names; of nothing if there are none."""
    return "|".join(map(re.escape, names)) or "(?!)"


def dataset_of(features):
    """The dataset whose features these are."""
    return FEATURES[features]


def as_json(spec):
    """A spec as a rule's param: equal specs give equal text, so that nothing reruns."""
    return json.dumps(spec, sort_keys=True, ensure_ascii=False)


def run_of(wildcards):
    """The run that the wildcards name."""
    return Run(wildcards.dataset, wildcards.labels, wildcards.method)


def seeds_of(wildcards):
    """Number of seeds of the training job that the wildcards name."""
    return 1 + int(wildcards.last) - int(wildcards.first)


def n_tuned(wildcards):
    """Number of seeds on which a candidate is trained."""
    return 1 + tuning_job(project, run_of(wildcards)).last


def features_of(wildcards):
    """The dataset of the features that the wildcards name, in a list."""
    return [dataset_of(wildcards.features)]


def analysed(wildcards):
    """The datasets of the analysis that the wildcards name."""
    paths = analysis_features(project, wildcards.analysis)
    return [dataset_of(Path(path).stem) for path in paths]


def job_of(wildcards):
    """The training job that the wildcards name."""
    return Job(run_of(wildcards), int(wildcards.first), int(wildcards.last))


def in_group(name, minutes):
    """Minutes of a job in a group: the jobs of one may run one after the other, within one limit."""
    limit = workflow.global_resources.get("runtime").value
    jobs = workflow.group_settings.group_components.get(name, 1)
    return minutes if limit is None else max(1, min(minutes, limit // jobs))


def measured(ask, benchmark, default, output):
    """A resource from finished jobs' benchmarks, by a function of flowgmm.experiments.resources.

    Where there are none, it is `default`, a function of the wildcards.
    """
    # Side by side in the folder of a method lie other seeds and candidates, elsewhere other jobs.
    neighbours = "{method}" in benchmark

    # A job that only passed a reason on says nothing about its cost. As it was before the run.
    @cache
    def did_nothing(path):
        return reason_of([path]) is not None

    def request(w, attempt):
        names = dict(w.items())
        if did_nothing(output.format(**names)):
            return default(w) * attempt
        return ask(benchmark.format(**names), attempt, default(w), neighbours)

    return request


def report_absent():
    """Say at the end of a run what could not be downloaded."""
    for path in sorted(Path("results/raw").glob("*/*")):
        if (reason := reason_of([path])) is not None:
            print(
                f"not run: {path}: {reason}; the next run tries again", file=sys.stderr
            )


def report_given_up():
    """Say at the end of a run, below all that the other jobs said, what was given up and why."""
    for reason in GIVEN_UP:
        print(f"error: {reason}", file=sys.stderr)


def memory_for(datasets, least=LEAST_MB):
    """MB of a first attempt, by the size of its data; `datasets` names them from the wildcards."""
    return lambda w: first(
        8000, least, max(data_share(project, name) for name in datasets(w))
    )


def time_for_data(minutes, datasets):
    """Minutes of a first attempt, by the size of its data."""
    return lambda w: first(
        minutes,
        LEAST_MIN,
        max(data_share(project, name) for name in datasets(w)),
    )


def time_for_training(minutes, n_seeds):
    """Minutes of a first attempt, by the points that pass through its model."""
    return lambda w: first(
        minutes, LEAST_MIN, work_share(project, run_of(w), n_seeds(w))
    )


def table_files(names):
    """All formats of tables."""
    return expand(f"{RESULTS}/tables/{{name}}.{{ext}}", name=names, ext=TABLE_FORMATS)


def figure_files(names):
    """All formats of figures."""
    return expand(f"{RESULTS}/figures/{{name}}.{{ext}}", name=names, ext=FIGURE_FORMATS)


def target_files(name):
    """The files that a table's or figure's target makes."""
    return (table_files if name in project.tables else figure_files)([name])


# Minutes without a download.
DEMO = [*table_files(["table_7", "demo"]), *figure_files(["figure_1"])]
REPORT = f"{RESULTS}/report/data.json"


def reported():
    """Results that this call makes, for which its report waits."""
    if not workflow.is_main_process:
        return []
    made = {
        "all": [*table_files(TABLES), *figure_files(SHOWN), *OVERVIEW],
        "all_tables": table_files(TABLES),
        "all_figures": [*figure_files(SHOWN), *OVERVIEW],
        "analyses": OVERVIEW,
        "demo": DEMO,
        "extra_tables": table_files(EXTRA_TABLES),
        **{name: target_files(name) for name in TABLES + EXTRA_TABLES + FIGURES},
    }
    # Known once the rules are read.
    targets = workflow.dag_settings.targets or ["all"]
    return sorted({path for name in targets for path in made.get(name, [])})


def beside():
    """Hash of the other results that are there, which a report shows, too."""
    others = sorted({*report_files(project)} - {*reported()})
    return content_hash({path: sha256(path) for path in others if os.path.isfile(path)})


def available_features():
    """Features of every dataset whose raw files can be had."""
    names = [name for name in project.datasets if absent_reason(project, name) is None]
    return [features_path(project, name) for name in names]


wildcard_constraints:
    dataset="[A-Za-z0-9_.]+",
    labels="[A-Za-z0-9_.]+",
    method="[A-Za-z0-9_.]+",
    point="[A-Za-z0-9_.=,+-]+",
    split="[0-9]+",
    first="[0-9]+",
    last="[0-9]+",
    table=one_of(project.tables),
    figure=one_of(project.figures),
    analysis=one_of(project.analyses),
