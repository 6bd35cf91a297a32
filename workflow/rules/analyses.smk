# Analyses of trained image models. An analysis may need a GPU; its figure is then cheap.
ANALYSE_MEASURED = f"{RESULTS}/benchmarks/run_analysis/{{analysis}}.tsv"
ANALYSE_RECORD = f"{RESULTS}/analyses/{{analysis}}.json"


rule run_analysis:
    input:
        records=lambda w: analysis_files(project, w.analysis, "record.json"),
        models=lambda w: analysis_files(project, w.analysis, "model.safetensors"),
        splits=lambda w: analysis_splits(project, w.analysis),
        features=lambda w: analysis_features(project, w.analysis),
    output:
        found=f"{RESULTS}/analyses/{{analysis}}.json",
        arrays=f"{RESULTS}/analyses/{{analysis}}.safetensors",
    log:
        f"{RESULTS}/logs/run_analysis/{{analysis}}.log",
    benchmark:
        ANALYSE_MEASURED
    conda:
        "../../environment.yml"
    threads: project.settings.threads
    resources:
        mem_mb=measured(
            memory_like,
            ANALYSE_MEASURED,
            memory_for(analysed, NETWORK_MB),
            ANALYSE_RECORD,
        ),
        runtime=measured(
            time_like, ANALYSE_MEASURED, time_for_data(60, analysed), ANALYSE_RECORD
        ),
        device=project.settings.device,
        script=script("run_analysis"),
    params:
        spec=lambda w: as_json(analysis_spec(project, w.analysis)),
    shell:
        "trap '' TERM; OMP_NUM_THREADS={threads} OMP_WAIT_POLICY=passive "
        "python {resources.script:q} --spec {params.spec:q} "
        "--records {input.records:q} --splits {input.splits:q} --features {input.features:q} "
        "--output {output.found:q} --device {resources.device:q} 2> >(tee {log:q} >&2)"


rule make_overview:
    input:
        found=found_paths(project, project.analyses),
        sources=lambda w: source_paths(
            project, [], run_analyses(project, project.analyses)
        ),
    output:
        md=report(
            f"{RESULTS}/tables/analyses.md",
            caption="../report/overview.rst",
            category="Tables",
            labels={"table": "analyses", "recipe": project.settings.recipe},
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
        script=script("make_overview"),
    params:
        spec=as_json(overview_spec(project)),
        # Not before it is needed: every job reads this file.
        origin=lambda w: origin_hash(
            project, [], run_analyses(project, project.analyses)
        ),
        prefix=lambda w, output: str(Path(output.json).with_suffix("")),
    shell:
        "trap '' TERM; python {resources.script:q} --spec {params.spec:q} --found {input.found:q} "
        "--prefix {params.prefix:q} 2> >(tee {log:q} >&2)"
