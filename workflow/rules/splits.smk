rule draw_split:
    input:
        features=lambda w: features_path(project, w.dataset),
        list=lambda w: split_list(project, w.dataset, w.labels, int(w.split)),
    output:
        f"{RESULTS}/splits/{{dataset}}/{{labels}}/split-{{split}}.safetensors",
    log:
        f"{RESULTS}/logs/draw_split/{{dataset}}/{{labels}}/split-{{split}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/draw_split/{{dataset}}/{{labels}}/split-{{split}}.tsv"
    group:
        "splits_{dataset}"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda w, attempt: 2000 * attempt,
        runtime=lambda w: in_group("splits_{dataset}", 5),
        script=script("draw_split"),
    params:
        spec=lambda w: as_json(split_spec(project, w.dataset, w.labels, int(w.split))),
    shell:
        "trap '' TERM; python {resources.script:q} --spec {params.spec:q} --features {input.features:q} "
        "--list {input.list:q} --output {output:q} 2> >(tee {log:q} >&2)"
