# What delivers Mailmirror: the place of its state, the accounts that Cloud Build works as, and the triggers. Applied by
# a person, once, before cloudbuild.yaml and cloudbuild.apply.yaml can run, and again whenever this folder changes:
# nothing that a trigger runs may change what triggers may do. Its own state stays where it is applied.
terraform {
  required_version = ">= 1.11"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 7.11, < 9.0"
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region
}

# What must be on before a build can plan anything; Mailmirror's own configuration turns on the rest.
resource "google_project_service" "api" {
  for_each = toset([
    "cloudbuild.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "iam.googleapis.com",
    "storage.googleapis.com",
  ])

  project            = var.project
  service            = each.key
  disable_on_destroy = false
}
