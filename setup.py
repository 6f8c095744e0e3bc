"""Packaging: `pip install .` gives the packages deeplab and slim and the command `deeplab`."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def requirements(name: str) -> list[str]:
    """Requirement lines of a file, without remarks, blank lines and nested files."""
    lines = (line.split("#")[0].strip() for line in (HERE / name).read_text().splitlines())
    return [line for line in lines if line and not line.startswith("-r")]


setup(
    name="deeplab-tensorflow",
    version="0.2.0",
    description="DeepLab v3 and v3+ semantic segmentation on today's TensorFlow and Keras",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    # The dataset descriptors live in datasets/ for people, and travel inside the package for wheels:
    # a top-level package called "datasets" would clash with another well-known library.
    packages=[*find_packages(include=["deeplab*", "slim*"]), "deeplab.known_datasets"],
    package_dir={"deeplab.known_datasets": "datasets"},
    package_data={
        "deeplab": [
            "py.typed",
            "*/*.json",
            "*/*.yml",
            "*/*/*.yml",
            "serving/page/*",
            "export/web_page_files/*",
            "*/*.css",
            "*/*.j2",
            "*/*/*.j2",
        ],
        "slim": ["py.typed"],
        "deeplab.known_datasets": ["*.yml", "*.palette"],
    },
    install_requires=requirements("requirements.txt"),
    extras_require={
        "coco": ["pycocotools>=2.0.8"],  # what our own decoder of run lengths is tested against; building needs none
        "heif": ["pillow-heif>=0.16"],  # HEIC images, as iPhones write them
        "serve": [  # deeplab serve
            "fastapi>=0.115",
            "uvicorn>=0.30",
            "python-multipart>=0.0.18",
            "prometheus-client>=0.20",
        ],
        "grpc": ["tensorflow-serving-api>=2.19"],  # deeplab.serving.Client over gRPC
        "beam": ["apache-beam>=2.70"],  # record building on many machines
        "geo": ["rasterio>=1.4"],  # TIFF of any bands and size, georeferences
        "mlflow": ["mlflow-skinny>=3"],  # train --report_to=mlflow
        "wandb": ["wandb>=0.21"],  # train --report_to=wandb
        "hub": ["huggingface_hub>=1.0"],  # push, pull, models at hf:// addresses
        "remote": ["fsspec>=2024.2"],  # s3://, hdfs:// ... with a library of fsspec such as s3fs; gs:// needs none
        "hf": ["pyarrow>=16"],  # parquet and Arrow files of Hugging Face datasets
        "medical": ["nibabel>=5.2", "pydicom>=3"],  # NIfTI volumes, DICOM images
        "onnx": ["tf2onnx>=1.17", "onnx>=1.23", "onnxruntime>=1.32"],  # export format and runtime onnx
        # export formats and runtimes openvino, mnn: the exports are made of an ONNX model
        "openvino": ["openvino>=2026.4", "nncf>=3.4", "tf2onnx>=1.17", "onnx>=1.23"],
        "mnn": ["MNN>=3.6", "tf2onnx>=1.17", "onnx>=1.23"],
        "coreml": ["coremltools>=9"],  # export format coreml
        "dev": requirements("requirements-dev.txt"),
    },
    entry_points={"console_scripts": ["deeplab = deeplab.__main__:main"]},
)
