# Neural methods: all seeds of a block in one stack. With tune_candidate the only trainings that use a
# GPU; which partition that is stands in the profile.
TRAIN_MEASURED = f"{RESULTS}/benchmarks/train_stack/{JOB}.tsv"
TRAIN_RECORD = f"{RUN}/record.json"


rule train_stack:
    input:
        unpack(lambda w: job_inputs(project, job_of(w))),
    output:
        record=f"{RUN}/record.json",
        predictions=f"{RUN}/predictions.safetensors",
        model=f"{RUN}/model.safetensors",
    log:
        f"{RESULTS}/logs/train_stack/{JOB}.log",
    benchmark:
        TRAIN_MEASURED
    wildcard_constraints:
        method=one_of(NEURAL),
    # The longest jobs first, so that none of them is left to run alone in the end.
    priority: lambda w: 1 + int(w.last) - int(w.first)
    conda:
        "../../environment.yml"
    threads: project.settings.threads
    resources:
        mem_mb=measured(
            memory_like,
            TRAIN_MEASURED,
            memory_for(lambda w: [w.dataset], NETWORK_MB),
            TRAIN_RECORD,
        ),
        runtime=measured(
            time_like, TRAIN_MEASURED, time_for_training(240, seeds_of), TRAIN_RECORD
        ),
        device=project.settings.device,
        script=script("train_stack"),
    params:
        spec=lambda w: as_json(train_spec(project, job_of(w))),
        out=lambda w, output: str(Path(output.record).parent),
        checkpoints=f"{RESULTS}/checkpoints",
    shell:
        "trap '' TERM; OMP_NUM_THREADS={threads} OMP_WAIT_POLICY=passive "
        "python {resources.script:q} --spec {params.spec:q} "
        "--features {input.features:q} --splits {input.splits:q} --choice {input.choice:q} "
        "--out {params.out:q} --checkpoints {params.checkpoints:q} --device {resources.device:q} "
        "--threads {threads} 2> >(tee {log:q} >&2)"


CLASSIC_MEASURED = f"{RESULTS}/benchmarks/fit_classic/{JOB}.tsv"


rule fit_classic:
    input:
        unpack(lambda w: job_inputs(project, job_of(w))),
    output:
        record=f"{RUN}/record.json",
        predictions=f"{RUN}/predictions.safetensors",
    log:
        f"{RESULTS}/logs/fit_classic/{JOB}.log",
    benchmark:
        CLASSIC_MEASURED
    wildcard_constraints:
        method=one_of(CLASSIC),
    group:
        "classic_{dataset}"
    conda:
        "../../environment.yml"
    threads: project.settings.threads
    resources:
        mem_mb=measured(
            memory_like,
            CLASSIC_MEASURED,
            memory_for(lambda w: [w.dataset]),
            TRAIN_RECORD,
        ),
        runtime=lambda w, attempt: in_group(
            "classic_{dataset}",
            measured(
                time_like,
                CLASSIC_MEASURED,
                time_for_training(120, seeds_of),
                TRAIN_RECORD,
            )(w, attempt),
        ),
        script=script("train_stack"),
    params:
        spec=lambda w: as_json(train_spec(project, job_of(w))),
        out=lambda w, output: str(Path(output.record).parent),
        checkpoints=f"{RESULTS}/checkpoints",
    shell:
        "trap '' TERM; OMP_NUM_THREADS={threads} OMP_WAIT_POLICY=passive "
        "python {resources.script:q} --spec {params.spec:q} "
        "--features {input.features:q} --splits {input.splits:q} --choice "
        "--out {params.out:q} --checkpoints {params.checkpoints:q} --device cpu "
        "--threads {threads} 2> >(tee {log:q} >&2)"
