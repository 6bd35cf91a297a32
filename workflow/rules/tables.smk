rule make_table:
    input:
        records=lambda w: table_records(project, w.table),
        sources=lambda w: table_sources(project, w.table),
    output:
        csv=report(
            f"{RESULTS}/tables/{{table}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}", "recipe": project.settings.recipe},
        ),
        md=f"{RESULTS}/tables/{{table}}.md",
        tex=f"{RESULTS}/tables/{{table}}.tex",
        json=f"{RESULTS}/tables/{{table}}.json",
    log:
        f"{RESULTS}/logs/make_table/{{table}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/make_table/{{table}}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=2000,
        runtime=10,
        changes=as_json(project.changes),
        # For the report; a new title alone reruns nothing.
        title=lambda w: project.table(w.table).title,
        script=script("make_table"),
    params:
        spec=lambda w: as_json(table_spec(project, w.table)),
        origin=lambda w: table_origin(project, w.table),
        prefix=lambda w, output: str(Path(output.json).with_suffix("")),
    shell:
        "trap '' TERM; python {resources.script:q} --spec {params.spec:q} --records {input.records:q} "
        "--changes {resources.changes:q} --prefix {params.prefix:q} 2> >(tee {log:q} >&2)"
