# Each candidate of a neural method's grid is one job, named after its values, so that another grid
# runs its new candidates alone. Classic methods choose inside fit_classic.
TUNING = f"{RESULTS}/tuning/{{dataset}}/{{labels}}/{{method}}"


TUNE_MEASURED = f"{RESULTS}/benchmarks/tune_candidate/{{dataset}}/{{labels}}/{{method}}/point-{{point}}.tsv"
TUNE_RECORD = f"{TUNING}/point-{{point}}.json"


rule tune_candidate:
    input:
        unpack(lambda w: tuning_inputs(project, run_of(w))),
    output:
        f"{TUNING}/point-{{point}}.json",
    log:
        f"{RESULTS}/logs/tune_candidate/{{dataset}}/{{labels}}/{{method}}/point-{{point}}.log",
    benchmark:
        TUNE_MEASURED
    wildcard_constraints:
        method=one_of(NEURAL),
    # Final runs wait for them.
    priority: 100
    conda:
        "../../environment.yml"
    threads: project.settings.threads
    resources:
        mem_mb=measured(
            memory_like,
            TUNE_MEASURED,
            memory_for(lambda w: [w.dataset], NETWORK_MB),
            TUNE_RECORD,
        ),
        runtime=measured(
            time_like, TUNE_MEASURED, time_for_training(240, n_tuned), TUNE_RECORD
        ),
        device=project.settings.device,
        script=script("tune_candidate"),
    params:
        spec=lambda w: as_json(tune_spec(project, run_of(w), w.point)),
        checkpoints=f"{RESULTS}/checkpoints",
    shell:
        "trap '' TERM; OMP_NUM_THREADS={threads} OMP_WAIT_POLICY=passive "
        "python {resources.script:q} --spec {params.spec:q} "
        "--features {input.features:q} --splits {input.splits:q} --output {output:q} "
        "--checkpoints {params.checkpoints:q} --device {resources.device:q} "
        "--threads {threads} 2> >(tee {log:q} >&2)"


rule choose_candidate:
    input:
        lambda w: point_paths(project, run_of(w)),
    output:
        f"{TUNING}/choice.json",
    log:
        f"{RESULTS}/logs/choose_candidate/{{dataset}}/{{labels}}/{{method}}.log",
    localrule: True
    conda:
        "../../environment.yml"
    resources:
        script=script("choose_candidate"),
    params:
        spec=lambda w: as_json(choose_spec(project, run_of(w))),
    shell:
        "trap '' TERM; python {resources.script:q} --spec {params.spec:q} --points {input:q} --output {output:q} "
        "2> >(tee {log:q} >&2)"
