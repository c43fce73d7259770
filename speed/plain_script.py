"""The script that a user of torchvision and pytorch-metric-learning would write.

    python speed/plain_script.py TABLE --network mobilenet_v2 --weights FILE

TABLE is a CSV with path, label and split (train or test). It trains for one epoch, or some steps,
prints images per second after the first four steps, and with --score recall@1 and MAP@R of the
test images.
"""

import argparse
import csv
import json
from time import perf_counter

import torch
import torchvision
from PIL import Image
from pytorch_metric_learning import losses, miners, samplers
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

SIZE, BATCH, PER_CLASS, EMBEDDING = 128, 64, 8, 128
WARM_UP = 4  # steps that are not timed: workers start, memory is found
NORMALIZE = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TRAIN = transforms.Compose(
    [
        transforms.RandomResizedCrop(SIZE, scale=(0.25, 1)),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        NORMALIZE,
    ]
)
TEST = transforms.Compose(
    [transforms.Resize(SIZE), transforms.CenterCrop(SIZE), transforms.ToTensor(), NORMALIZE]
)


class Images(Dataset):
    def __init__(self, table, split, transform):
        with open(table, newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if row["split"] == split]
        self.paths = [row["path"] for row in rows]
        self.labels = [int(row["label"]) for row in rows]
        self.transform = transform

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        image = Image.open(self.paths[index]).convert("RGB")
        return self.transform(image), self.labels[index]


def make_model(network, weights):
    model = getattr(torchvision.models, network)()
    if weights:
        state = torch.load(weights, weights_only=True)
        model.load_state_dict(state, strict=False)  # the file has no classifier
    if network == "mobilenet_v2":
        model.classifier = nn.Linear(1280, EMBEDDING)
    else:
        model.fc = nn.Linear(model.fc.in_features, EMBEDDING)
    return model


def train(model, data, steps):
    sampler = samplers.MPerClassSampler(data.labels, PER_CLASS, BATCH, len(data))
    loader = DataLoader(data, BATCH, sampler=sampler, num_workers=2, drop_last=True)
    loss_function, miner = losses.MultiSimilarityLoss(), miners.MultiSimilarityMiner()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    model.train()
    start, seen = perf_counter(), 0
    for step, (images, labels) in enumerate(loader):
        if step == steps:
            break
        optimizer.zero_grad()
        embeddings = model(images)
        loss = loss_function(embeddings, labels, miner(embeddings, labels))
        loss.backward()
        optimizer.step()
        seen += len(labels)
        if step + 1 == WARM_UP:
            start, seen = perf_counter(), 0
    return seen / (perf_counter() - start)


@torch.no_grad()
def score(model, data):
    model.eval()
    loader = DataLoader(data, BATCH, num_workers=2)
    parts = [(nn.functional.normalize(model(images)), labels) for images, labels in loader]
    embeddings, labels = (torch.cat(column) for column in zip(*parts, strict=True))
    calculator = AccuracyCalculator(
        include=("precision_at_1", "mean_average_precision_at_r"), k="max_bin_count"
    )
    return calculator.get_accuracy(embeddings, labels)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("table")
    parser.add_argument("--network", default="mobilenet_v2")
    parser.add_argument("--weights")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--score", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    model = make_model(given.network, given.weights)
    result = {
        "images_per_second": train(model, Images(given.table, "train", TRAIN), given.steps),
    }
    if given.score:
        result |= score(model, Images(given.table, "test", TEST))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
