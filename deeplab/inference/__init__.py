"""From images to labels: prediction, predictors of every kind of model file, post-processing, folders and videos."""
