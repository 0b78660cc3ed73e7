# Stands alone: nothing else refers to this folder, and its state is its own.
terraform {
  required_version = ">= 1.11"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 7.11, < 9.0"
    }
  }
}

# Organization policies are the caller's business and no project's: the API wants to be told whose quota it is.
provider "google" {
  project               = var.project
  billing_project       = var.project
  user_project_override = true
}
