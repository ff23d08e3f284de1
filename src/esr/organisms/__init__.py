"""Planted model organisms: tiny Llamas whose steering resistance is known by construction.

They are evidence about the pipeline, never about language models: detector, dose-response and
recovery are trained in.
"""
