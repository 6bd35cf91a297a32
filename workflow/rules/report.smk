# The report: one page of all that was made of a recipe.
REPORT = f"{RESULTS}/report/data.json"


def reported():
    """Results that this call makes and its report waits for; what else is there it shows as it is."""
    if not workflow.is_main_process:
        return []
    made = {
        "all": [*table_files(TABLES), *figure_files(SHOWN), *OVERVIEW],
        "all_tables": table_files(TABLES),
        "all_figures": [*figure_files(SHOWN), *OVERVIEW],
        "analyses": OVERVIEW,
        "demo": DEMO,
        "extra_tables": table_files(EXTRA_TABLES),
        **{name: target_files(name) for name in TABLES + FIGURES},
    }
    # Known once the rules are read.
    targets = workflow.dag_settings.targets or ["all"]
    return sorted({path for name in targets for path in made.get(name, [])})


def shown():
    """Hash of the results that the report shows beside them."""
    others = sorted({*report_files(project)} - {*reported()})
    return content_hash({path: sha256(path) for path in others if os.path.isfile(path)})


rule report:
    input:
        lambda w: reported(),
    output:
        data=REPORT,
        page=f"{RESULTS}/report/index.html",
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=2000,
        runtime=20,
        changes=as_json(project.changes),
        repository=str(REPOSITORY),
        script=script("report"),
    params:
        spec=lambda w: content_hash(report_spec(project)),
        others=lambda w: shown(),
    shell:
        "trap '' TERM; python {resources.script:q} --changes {resources.changes:q} "
        "--repository {resources.repository:q} --data {output.data:q} --page {output.page:q} "
        "2> >(tee {log:q} >&2)"
