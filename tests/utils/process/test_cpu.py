"""The description of processors holds what they are, and nothing that changes from hour to hour."""

import pytest

from ppdet.utils.process import cpu

X86 = """processor	: {0}
vendor_id	: AuthenticAMD
cpu family	: 25
model		: 17
model name	: AMD EPYC 9R14
microcode	: 0xa101148
cpu MHz		: {1}
flags		: fpu sse2 {2}
bogomips	: 5199.{1}

"""
ARM = "processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n"


@pytest.fixture
def describe(tmp_path, monkeypatch):
    """The description where /proc/cpuinfo has a text."""

    def described(text):
        (tmp_path / "cpuinfo").write_text(text)
        monkeypatch.setattr(cpu, "Path", lambda path: tmp_path / path.rpartition("/")[2])
        return cpu.processor_description()

    return described


def test_frequency_and_number_of_processors_do_not_count_but_instructions_do(describe):
    one = describe(X86.format(0, 2600, "avx2"))
    assert one == describe(X86.format(0, 3100, "avx2") + X86.format(1, 1900, "avx2"))
    assert "avx2" in one and "2600" not in one
    assert one != describe(X86.format(0, 2600, "avx2 avx512f"))
    assert one != describe(X86.format(0, 2600, "avx2").replace("0xa101148", "0xa101149"))


def test_arm_is_described_by_its_own_fields(describe):
    assert "asimd" in describe(ARM) and describe(ARM) != describe(ARM.replace("0xd40", "0xd4f"))


def test_a_text_without_these_fields_or_no_file_is_no_description(describe, monkeypatch):
    assert describe("processor: 0\n") is None
    monkeypatch.setattr(cpu, "Path", lambda path: cpu_missing)
    assert cpu.processor_description() is None


class Missing:
    def read_text(self):
        raise FileNotFoundError


cpu_missing = Missing()
