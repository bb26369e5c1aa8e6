# make run: train ViT-B/16 a few steps.   make test: every test.   make help: all targets.
MODE  ?= release
B     := build/$(MODE)
CC    ?= cc
LLVM  ?= $(firstword $(foreach v,22 21 20 19,$(if $(shell command -v llvm-config-$(v) 2>/dev/null),llvm-config-$(v))))
STD   := -std=gnu11 -g -pthread -fno-strict-aliasing -fPIC -fvisibility=hidden
WARN  := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 -Wno-unused-parameter
FLAGS_release := -O2
FLAGS_asan    := -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
FLAGS_tsan    := -O1 -fsanitize=thread -fno-omit-frame-pointer
JOBS := $(if $(filter -j% --jobs%,$(MAKEFLAGS)),,-j$(shell nproc 2>/dev/null || echo 1))
CFLAGS := $(STD) $(FLAGS_$(MODE)) $(WARN) $(EXTRA)
CPPFLAGS := -Iruntime -Icompiler -I$(B)/gen -MMD -MP
LLVM_CFLAGS := $(if $(LLVM),$(shell $(LLVM) --cflags))
LLVM_LIBS   := $(if $(LLVM),$(shell $(LLVM) --ldflags --libs core native passes))
RT_LIBS := -ljpeg -lpng -lwebp -lz -lm -ldl

RT_SRC  := $(filter-out runtime/tools/%,$(wildcard runtime/*.c runtime/*/*.c))
RT_OBJ  := $(RT_SRC:%.c=$(B)/%.o)
CC_SRC  := $(filter-out compiler/driver/%,$(wildcard compiler/*.c compiler/*/*.c))
CC_OBJ  := $(CC_SRC:%.c=$(B)/%.o) $(B)/gen/front/grammar.o $(B)/gen/front/lexer.o $(B)/gen/prelude.o $(B)/gen/templates.o $(B)/gen/tuned.o
DRV_OBJ := $(patsubst %.c,$(B)/%.o,$(wildcard compiler/driver/*.c)) $(B)/gen/stdlib.o
UNIT_RT := $(patsubst tests/unit/%.c,$(B)/tests/%,$(wildcard tests/unit/rt_*.c))
UNIT_CC := $(patsubst tests/unit/%.c,$(B)/tests/%,$(wildcard tests/unit/cc_*.c))
UNIT_GPU := $(patsubst tests/gpu/test_%.c,$(B)/tests/cc_gpu_%,$(wildcard tests/gpu/test_*.c))

all: $(B)/ticc $(B)/libticrt.a $(B)/ticdata            ## build the compiler, the runtime and the data tool
unit: $(UNIT_RT) $(UNIT_CC) $(UNIT_GPU)
unit-rt: $(UNIT_RT) $(B)/ticdata

$(RT_OBJ) $(CC_OBJ) $(DRV_OBJ): Makefile               # it holds the flags
$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -c $< -o $@
$(B)/compiler/cpu/%.o: compiler/cpu/%.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(LLVM_CFLAGS) -c $< -o $@
$(B)/gen/%.o: $(B)/gen/%.c
	$(CC) $(CPPFLAGS) -Icompiler/front $(STD) $(FLAGS_$(MODE)) -w -c $< -o $@

$(B)/gen/front/grammar.c $(B)/gen/front/grammar.h &: compiler/front/grammar.y
	@mkdir -p $(@D)
	bison -Wall -Werror --header=$(B)/gen/front/grammar.h -o $(B)/gen/front/grammar.c $<
$(B)/gen/front/lexer.c: compiler/front/lexer.l
	@mkdir -p $(@D)
	flex -o $@ $<
$(CC_OBJ): | $(B)/gen/front/grammar.h
$(B)/gen/stdlib.c: $(wildcard stdlib/*.tic)
	@mkdir -p $(@D)
	@{ echo '#include "driver/compile.h"'; echo 'const StdlibModule ticc_stdlib[] = {'; for f in $^; do echo "{ \"$$(basename $$f .tic)\","; \
	   sed 's/\\/\\\\/g; s/"/\\"/g; s/^/"/; s/$$/\\n"/' $$f; echo '},'; done; echo '{ 0, 0 } };'; } > $@

$(B)/gen/prelude.c: compiler/cuda/prelude/tc.cuh
	@mkdir -p $(@D)
	@{ echo 'extern const char tc_prelude[]; const char tc_prelude[] ='; sed 's/\\/\\\\/g; s/"/\\"/g; s/^/"/; s/$$/\\n"/' $<; echo ';'; } > $@

$(B)/gen/tuned.c: compiler/cuda/tuned.txt
	@mkdir -p $(@D)
	@{ echo 'extern const char cuda_tuned[]; const char cuda_tuned[] ='; sed 's/\\/\\\\/g; s/"/\\"/g; s/^/"/; s/$$/\\n"/' $<; echo ';'; } > $@

$(B)/gen/templates.c: $(wildcard compiler/cuda/templates/*.cu)
	@mkdir -p $(@D)
	@for f in $^; do n=cuda_template_$$(basename $$f .cu); echo "extern const char $$n[]; const char $$n[] ="; \
	   sed 's/\\/\\\\/g; s/"/\\"/g; s/^/"/; s/$$/\\n"/' $$f; echo ';'; done > $@

$(B)/libticrt.a: $(RT_OBJ)
	rm -f $@ && ar rcs $@ $^
$(B)/libticc.a: $(CC_OBJ)
	rm -f $@ && ar rcs $@ $^
$(B)/ticc: $(DRV_OBJ) $(B)/libticc.a $(B)/libticrt.a
	$(CC) $(CFLAGS) $(DRV_OBJ) $(B)/libticc.a $(B)/libticrt.a $(LLVM_LIBS) $(RT_LIBS) -o $@
$(B)/ticdata: $(patsubst %.c,$(B)/%.o,$(wildcard runtime/tools/*.c)) $(B)/libticrt.a
	$(CC) $(CFLAGS) $^ $(RT_LIBS) -o $@

$(B)/tests/rt_%: tests/unit/rt_%.c $(B)/libticrt.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $< $(B)/libticrt.a $(RT_LIBS) -lcmocka -o $@
$(B)/tests/cc_%: tests/unit/cc_%.c $(B)/gen/stdlib.o $(B)/libticc.a $(B)/libticrt.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $< $(B)/gen/stdlib.o $(B)/libticc.a $(B)/libticrt.a $(LLVM_LIBS) $(RT_LIBS) -lcmocka -o $@

# an emulated GPU: a libcuda and a libnvrtc for tests (tests/gpu/fake_cuda.c says how to run a program on it)
EMU := $(B)/libemu_cuda.so $(B)/libemu_nvrtc.so
EMU_FLAGS := $(STD) -O2 -march=native -fPIC -fvisibility=default -shared $(WARN) -MMD -MP
$(B)/libemu_cuda.so: $(wildcard tests/gpu/emu*.c) tests/gpu/fake_cuda.c $(wildcard tests/gpu/emu*.h)
	@mkdir -p $(@D)
	$(CC) $(EMU_FLAGS) $(filter %.c,$^) -lm -ldl -o $@
$(B)/libemu_nvrtc.so: tests/gpu/fake_nvrtc.c
	@mkdir -p $(@D)
	$(CC) $(EMU_FLAGS) -DEMU_FOLDER='"$(CURDIR)/tests/gpu"' $< -o $@
$(B)/tests/cc_gpu_%: tests/gpu/test_%.c tests/gpu/device.c tests/gpu/gemm.c tests/gpu/attn.c $(B)/libticc.a $(B)/libticrt.a $(EMU)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) -Itests/gpu $(CFLAGS) $(filter %.c,$^) $(B)/libticc.a $(B)/libticrt.a -lm -ldl -o $@
$(B)/tests/gpu_%: tests/gpu/%.c tests/gpu/device.c tests/gpu/gemm.c tests/gpu/attn.c $(B)/libticc.a $(B)/libticrt.a $(EMU)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) -Itests/gpu $(CFLAGS) $(filter %.c,$^) $(B)/libticc.a $(B)/libticrt.a -lm -ldl -o $@
emu: $(EMU)                                             ## the emulated GPU
.PHONY: gpu-check gpu-bench gpu-tune
gpu-check: all unit                                     ## on an NVIDIA GPU: the prelude, templates, every kernel of ViT-B/16 and its step; small steps under compute-sanitizer
	@TIC_GPU=1 TICC_ROOT=. $(B)/tests/cc_gpu_conformance && TIC_GPU=1 $(B)/tests/cc_gpu_gemm && TIC_GPU=1 $(B)/tests/cc_gpu_attn && TIC_GPU=1 $(B)/tests/cc_gpu_sets
	@for p in f32 bf16; do $(B)/ticc models/vit_b16.tic --target cpu,cuda -D train.precision=$$p -D train.micro=1 -o $(B)/gpu_$$p && \
	   $(B)/gpu_$$p check --batch 2 --steps 1 || exit 1; done
	@tests/gpu/sanitize.sh $(B)/ticc $(B)
gpu-bench: all $(B)/tests/gpu_bench                     ## on an NVIDIA GPU: contractions, attention and the step of ViT-B/16, and the same by PyTorch where it is
	@TIC_GPU=1 $(B)/tests/gpu_bench && python3 tests/gpu/bench.py
	@$(B)/ticc models/vit_b16.tic --target cpu,cuda -D train.precision=bf16 -o $(B)/gpu_bf16
	@for b in 256 1024; do $(B)/gpu_bf16 bench --device cuda --batch $$b --steps 5 && python3 tests/gpu/bench_torch.py $$b --compile; done
gpu-tune: all                                           ## on an NVIDIA GPU: times every template for the contractions and attention of ViT-B/16; the fastest are compiled in
	@$(B)/ticc --tune models/vit_b16.tic -D train.precision=bf16 --batch 1024 --table compiler/cuda/tuned.txt && $(MAKE) --no-print-directory all

deps:                                                   ## install what is missing (Debian, Ubuntu)
	@.ci/deps
build: deps                                             ## deps, then everything
	@$(MAKE) --no-print-directory $(JOBS) all

run: build                                              ## train ViT-B/16 a few steps on drawn sample data
	@MODE=$(MODE) examples/run.sh
demo: build                                             ## train a small model until it visibly learns (three minutes)
	@MODE=$(MODE) examples/demo.sh
demo-years: build                                       ## four strategies through the years, and their report (ten minutes)
	@MODE=$(MODE) examples/demo_years.sh
test: build                                             ## every test; the last line counts them
	@$(MAKE) --no-print-directory $(JOBS) unit
	@MODE=$(MODE) tests/run $(WORDS)
# leaks count too, where the system lets the sanitizer look (not below a debugger, nor in some containers)
asan: deps                                              ## the tests under the address, leak and undefined-behaviour sanitizers
	@$(MAKE) --no-print-directory $(JOBS) MODE=asan all unit
	@leaks=0; ASAN_OPTIONS=detect_leaks=1 build/asan/ticdata --version >/dev/null 2>&1 && leaks=1; \
	 MODE=asan ASAN_OPTIONS=detect_leaks=$$leaks TICC_LDFLAGS=-fsanitize=address,undefined tests/run $(WORDS)
tsan: deps                                              ## the tests of what has threads, under the thread sanitizer
	@$(MAKE) --no-print-directory $(JOBS) MODE=tsan unit-rt
	@MODE=tsan tests/run rt_data rt_device rt_train rt_eval rt_tools

PYTHON ?= python3
# pip fetches the package, of which one file is kept; nothing is installed
vocab:                                                  ## CLIP's vocabulary out of the open_clip_torch package, for captions
	@mkdir -p build/vocab && $(PYTHON) -m pip download -q --no-deps --disable-pip-version-check -d build/vocab open_clip_torch
	@cd build/vocab && $(PYTHON) -m zipfile -e open_clip_torch-*.whl . && d="$${XDG_CACHE_HOME:-$$HOME/.cache}/ticc" && mkdir -p "$$d" && \
	 echo "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a  open_clip/bpe_simple_vocab_16e6.txt.gz" | sha256sum -c --quiet && \
	 cp open_clip/bpe_simple_vocab_16e6.txt.gz "$$d" && echo "$$d/bpe_simple_vocab_16e6.txt.gz"
BENCH_MODEL ?= models/vit_b16.tic
BENCH_BATCH ?= 16
BENCH_TORCH ?= ViT-B-16
bench: build                                            ## time a training step (BENCH_MODEL, BENCH_BATCH), kernel by kernel
	@$(B)/ticc $(BENCH_MODEL) -o $(B)/bench_step
	@$(B)/bench_step bench --batch $(BENCH_BATCH) --steps 3 --explain
bench-torch: build                                      ## the step, its memory and the image tower beside PyTorch, in turns; PYTHON=... has it
	@$(PYTHON) tests/bench/torch_step.py $(B)/ticc $(BENCH_MODEL) --model $(BENCH_TORCH) --batch $(BENCH_BATCH)
$(B)/tests/bench_images: tests/bench/images.c $(B)/libticrt.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $< $(B)/libticrt.a $(RT_LIBS) -o $@
$(B)/tests/bench_linear: tests/bench/linear.c $(B)/libticc.a $(B)/libticrt.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $< $(B)/libticc.a $(B)/libticrt.a $(LLVM_LIBS) $(RT_LIBS) -o $@
bench-linear: build $(B)/tests/bench_linear             ## time the products of ViT-B/16's linear layers alone, then beside PyTorch; PYTHON=... has it
	@$(B)/tests/bench_linear && $(PYTHON) tests/bench/linear.py $(B)/tests/bench_linear
bench-images: build $(B)/tests/bench_images             ## time the picture pipeline beside Pillow and torchvision; PYTHON=... has them
	@$(PYTHON) tests/bench/images.py $(B)/tests/bench_images
parity: build                                           ## ViT-B/16 against OpenCLIP; PYTHON=... has torch and open_clip_torch
	@mkdir -p build/parity && $(PYTHON) tests/parity/make_fixtures.py --full build/parity
	@$(B)/ticc models/vit_b16.tic --emit=asm -o build/parity/vit_b16.s -D train.batch=8 -D 'train.optimizer=adamw(lr = cosine(peak = 1e-4, warmup = 4), beta1 = 0.9, beta2 = 0.98, eps = 1e-6, weight_decay(p) = if rank(p) < 2 then 0 else 0.2)'
	@$(CC) -O2 -pthread -Iruntime tests/parity/check.c build/parity/vit_b16.s $(B)/libticrt.a $(RT_LIBS) -o build/parity/check
	@build/parity/check build/parity/vit_b16.safetensors

# fuzz targets: tests/fuzz/fuzz_NAME.c, seeds from tests/fuzz/seeds, other tests and models; MODE=asan always
FUZZ_SECONDS ?= 60
FUZZ := $(patsubst tests/fuzz/%.c,build/asan/tests/%,$(wildcard tests/fuzz/fuzz_*.c))
$(B)/tests/fuzz_%: tests/fuzz/fuzz_%.c tests/fuzz/driver.c $(B)/gen/stdlib.o $(B)/libticc.a $(B)/libticrt.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(filter %.c,$^) $(B)/gen/stdlib.o $(B)/libticc.a $(B)/libticrt.a $(LLVM_LIBS) $(RT_LIBS) -o $@
fuzz-targets: $(patsubst tests/fuzz/%.c,$(B)/tests/%,$(wildcard tests/fuzz/fuzz_*.c))
fuzz: deps                                              ## a minute of mutated inputs for every fuzz target
	@$(MAKE) --no-print-directory $(JOBS) MODE=asan fuzz-targets
	@for t in $(FUZZ); do ASAN_OPTIONS=detect_leaks=0 $$t $(FUZZ_SECONDS) 1 $$(find tests/unit/data tests/fuzz/seeds tests/golden models stdlib ../shared/data -type f 2>/dev/null) || exit 1; done

clean:                                                  ## remove what was built
	rm -rf build
help:
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile
-include $(shell find $(B) -name '*.d' 2>/dev/null)
.DELETE_ON_ERROR:
.PHONY: all unit unit-rt emu deps build bench bench-torch bench-linear bench-images run demo demo-years test vocab parity asan tsan fuzz fuzz-targets clean help
