# One deployment of Mailmirror in one project. There is no backend block: without STATE, `make deploy` keeps the state in this
# folder; with it, the target writes a backend.tf that names the bucket. No secret is ever part of the state.
terraform {
  required_version = ">= 1.11"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 7.11, < 9.0"
    }
    archive = {
      source  = "hashicorp/archive"
      version = ">= 2.5, < 3.0"
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region
}
