# What is measured on trained image models. An analysis may need a GPU; its figure is then cheap.
ANALYSE_MEASURED = f"{RESULTS}/benchmarks/run_analysis/{{analysis}}.tsv"


rule run_analysis:
    input:
        records=lambda w: project.analysis_files(w.analysis, "record.json"),
        models=lambda w: project.analysis_files(w.analysis, "model.safetensors"),
        splits=lambda w: project.analysis_splits(w.analysis),
        features=lambda w: project.analysis_features(w.analysis),
    output:
        found=f"{RESULTS}/analyses/{{analysis}}.json",
        arrays=f"{RESULTS}/analyses/{{analysis}}.safetensors",
    log:
        f"{RESULTS}/logs/run_analysis/{{analysis}}.log",
    benchmark:
        ANALYSE_MEASURED
    conda:
        "../../environment.yml"
    threads: project.settings["threads"]
    resources:
        mem_mb=measured(memory_like, ANALYSE_MEASURED, 8000),
        runtime=measured(time_like, ANALYSE_MEASURED, 60),
        device=project.settings["device"],
    params:
        spec=lambda w: as_json(project.analysis_spec(w.analysis)),
    shell:
        "OMP_NUM_THREADS={threads} python scripts/run_analysis.py --spec {params.spec:q} "
        "--records {input.records:q} --splits {input.splits:q} --features {input.features:q} "
        "--output {output.found:q} --device {resources.device:q} 2> >(tee {log:q} >&2)"


rule make_overview:
    input:
        found=project.found_paths(project.analyses),
        sources=lambda w: project.sources([], project.run_analyses(project.analyses)),
    output:
        md=report(
            f"{RESULTS}/tables/analyses.md",
            category="Tables",
            labels={"table": "analyses", "recipe": project.settings["recipe"]},
        ),
        csv=f"{RESULTS}/tables/analyses.csv",
        json=f"{RESULTS}/tables/analyses.json",
    log:
        f"{RESULTS}/logs/make_overview.log",
    benchmark:
        f"{RESULTS}/benchmarks/make_overview.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        spec=as_json(project.overview_spec()),
        # Not before it is needed: every job reads this file.
        origin=lambda w: project.origin([], project.run_analyses(project.analyses)),
        prefix=lambda w, output: str(Path(output.json).with_suffix("")),
    shell:
        "python scripts/make_overview.py --spec {params.spec:q} --found {input.found:q} "
        "--prefix {params.prefix:q} 2> >(tee {log:q} >&2)"
