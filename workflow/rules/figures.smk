rule make_figure:
    input:
        models=lambda w: project.figure_models(w.figure),
        features=lambda w: project.figure_features(w.figure),
        splits=lambda w: project.figure_splits(w.figure),
        table=lambda w: project.figure_table(w.figure),
        found=lambda w: project.found_paths(project.figure_analyses(w.figure)),
        sources=lambda w: project.figure_sources(w.figure),
    output:
        png=report(
            f"{RESULTS}/figures/{{figure}}.png",
            category="Figures",
            labels={"figure": "{figure}", "recipe": project.settings["recipe"]},
        ),
        pdf=f"{RESULTS}/figures/{{figure}}.pdf",
    log:
        f"{RESULTS}/logs/make_figure/{{figure}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/make_figure/{{figure}}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=4000,
        runtime=20,
    params:
        spec=lambda w: as_json(project.figure_spec(w.figure)),
        origin=lambda w: project.figure_origin(w.figure),
        prefix=lambda w, output: str(Path(output.png).with_suffix("")),
    shell:
        "python scripts/make_figure.py --spec {params.spec:q} --features {input.features:q} "
        "--splits {input.splits:q} --models {input.models:q} --table {input.table:q} "
        "--found {input.found:q} "
        "--prefix {params.prefix:q} 2> >(tee {log:q} >&2)"
