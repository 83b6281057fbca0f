# Two commands on a fresh machine: `make demo` and `make test`. Both set up what they need.

VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
EXTRAS := train,export,serve,device,student,nla,test,bench

.PHONY: demo test figures clean

demo: $(VENV)/installed ## examples -> adapter, verdict, card and report, on the embedded base
	$(BIN)/scion run cerebellum

test: $(VENV)/installed ## all tests
	$(BIN)/python -m pytest

figures: $(VENV)/installed ## the figures that the docs show: three seeds each, then the generated parts of README.md and docs/
	for recipe in cerebellum lumen lumen-blind lantern nla; do \
	  $(BIN)/scion run $$recipe --out runs/$$recipe-3-seeds --set "train.seeds=[0,1,2]" || exit 1; done
	$(BIN)/scion run nla-published
	$(BIN)/python docs/generate.py --picture

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[$(EXTRAS)]"
	touch $@

clean:
	rm -rf $(VENV) runs
