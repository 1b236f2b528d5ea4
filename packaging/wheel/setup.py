"""The wheel carries a program, not an extension: it fits every Python 3 of one platform."""
import os

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel


class Program(Distribution):
    def has_ext_modules(self):
        return True


class AnyPython(bdist_wheel):
    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


setup(version=os.environ["COLDSTART_VERSION"], distclass=Program, cmdclass={"bdist_wheel": AnyPython})
