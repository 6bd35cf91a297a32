rule make_figure:
    input:
        models=lambda w: figure_models(project, w.figure),
        features=lambda w: figure_features(project, w.figure),
        splits=lambda w: figure_splits(project, w.figure),
        table=lambda w: figure_table(project, w.figure),
        found=lambda w: found_paths(project, figure_analyses(project, w.figure)),
        sources=lambda w: figure_sources(project, w.figure),
    output:
        png=report(
            f"{RESULTS}/figures/{{figure}}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}", "recipe": project.settings.recipe},
        ),
        pdf=f"{RESULTS}/figures/{{figure}}.pdf",
        svg=f"{RESULTS}/figures/{{figure}}.svg",
    log:
        f"{RESULTS}/logs/make_figure/{{figure}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/make_figure/{{figure}}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=4000,
        runtime=20,
        # For the report; a new title alone reruns nothing.
        title=lambda w: project.figures[w.figure].title,
        script=script("make_figure"),
    params:
        spec=lambda w: as_json(figure_spec(project, w.figure)),
        origin=lambda w: figure_origin(project, w.figure),
        prefix=lambda w, output: str(Path(output.png).with_suffix("")),
    shell:
        "trap '' TERM; python {resources.script:q} --spec {params.spec:q} --features {input.features:q} "
        "--splits {input.splits:q} --models {input.models:q} --table {input.table:q} "
        "--found {input.found:q} "
        "--prefix {params.prefix:q} 2> >(tee {log:q} >&2)"
